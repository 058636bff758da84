"""What a person sees on a terminal or in a pipe; the one importer of rich.

Progress goes to standard error, results to standard output. Whatever a node said is shown as text, never as
markup.
"""
