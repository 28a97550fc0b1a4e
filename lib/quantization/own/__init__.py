"""Networks from elsewhere: how they are described, read and checked."""
