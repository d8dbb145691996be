"""`funasr serve`: bytes of clients in, what the model says out, by the protocols that they speak.
No model code: one scheduler asks `api` for all doors.

Imports: the ground floor, api, data.audio.
"""
