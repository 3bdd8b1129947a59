"""The container engine: connecting, images, labels, short-lived containers, and a daemon of our own."""
