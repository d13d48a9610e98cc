"""What readers of published archives share: their files, and pictures in them."""
