"""The dispatcher: a room for each part of the drawing.

`daemon` starts everything; `loop` decides; `pool` holds the workers, the Queue and the Array; `worker` looks
after one job process; `job_process` runs the user's function; `writer` makes rows of what comes back.
"""
