"""What is measured on a crop, without any network."""
