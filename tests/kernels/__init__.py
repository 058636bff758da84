"""The end-to-end scenario on other kernels and links."""
