"""Write files whole, read them with distrust, lock them."""
