"""`shitu serve`: search, features and changes of the index over HTTP, and a page to drop a photo on."""
