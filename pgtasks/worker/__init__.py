"""The worker: a supervisor, the processes that it keeps alive, and what each of them is made of."""
