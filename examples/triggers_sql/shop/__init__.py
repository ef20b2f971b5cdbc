"""What a shop has to do when its tables change."""
