"""What every frame passes."""
