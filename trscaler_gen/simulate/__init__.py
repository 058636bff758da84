"""What recorded traffic would be for each node of a cluster: read as a stream, hashed as the kernel does."""
