"""What tries to get in at the webhook, and what is odd but genuine: one case each, with where the idea comes from."""
