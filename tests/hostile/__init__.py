"""What a host, a container or a neighbour tries, each attack by name: none of it gets anywhere."""
