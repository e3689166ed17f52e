"""Uploads that survive a broken line: the tus resumable upload protocol, version 1.0, which has ready clients for every platform.

    headers   what requests and responses say in headers
    errors    what may be wrong with them
    record    one upload, as it is kept
    store     where uploads lie on the disk, and how many of their bytes are safe there
    append    a request's body onto the end of an upload
    finish    a whole upload becomes an analysis
    routes    /v1/uploads

What is promised: the offset that a client is told is on the disk, fsynced, and never goes down. What arrived before a line broke
or the gateway was killed counts. An upload whose last byte was acknowledged becomes exactly one analysis.

The protocol: https://tus.io/protocols/resumable-upload (1.0.0), the core and the extensions creation, creation-with-upload,
expiration, termination and checksum. Sections named in this package are its own.
"""
