"""People sign up, and get a mail: both or neither."""
