"""A run in the browser: its content as bytes, the page, the server, the one-file export."""
