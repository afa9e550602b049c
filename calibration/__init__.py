"""Images on the way in: found, decoded and made into the model's input."""
