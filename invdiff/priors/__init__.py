"""What x looks like before the data: denoisers E[x0 | x0 + sigma n = x]."""
