"""Videos in, frames out, through a pipe between the worker and a process that can do nothing but decode.

the worker's side    decoding               starts the process, and believes nothing that it says
both sides           wire, limits, frames   what they say to each other
the decoder's side   decoder                the process; `sandbox` is its cage
                     video                  an open file to frames, by containers, streams, pictures, clock, interlacing, picture,
                                            orientation and colour

FFmpeg meets a stranger's file on the decoder's side only; no module of the other two imports it.
"""
