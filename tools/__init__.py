"""What developing this project needs and its users do not."""
