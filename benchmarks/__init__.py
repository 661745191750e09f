"""Speed and memory of this pack and of its peers."""
