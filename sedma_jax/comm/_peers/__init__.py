"""What a node knows of other peers, and how it chooses among them."""
