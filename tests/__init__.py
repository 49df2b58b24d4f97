"""The tests, and the lab that they run on. Nothing here is shipped."""
