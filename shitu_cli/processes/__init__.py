"""Several processes of one run: launch them, connect several machines, and exchange values between them."""
