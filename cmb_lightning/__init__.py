"""Learn to take the CMB out of the microwave sky."""
