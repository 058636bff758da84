"""The product on real input: a lab, a deployment over SSH, packets counted on the wire."""
