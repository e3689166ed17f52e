"""What every HTTP service of Mien does alike: problems, their description, access log, metrics, checks, and how it listens.

    errors      what can be wrong with any request
    problems    a service's table of errors, and RFC 9457 answers made from it
    catalogue   a page about each of them
    openapi     the same errors in the description of the API
    access      around every request: its id, one line in the log, its metrics
    bodies      how large one may be that is read whole
    background  what goes on beside the requests
    patience    how long a connection may keep the server waiting
    lingering   answering before the body has been read
    health      is everything there that it needs
    operations  the routes for those who run it
    naming      how an address names one of many
    paging      lists a page at a time
    guard       who asks, and may they
    strangers   no body of theirs is read
    keyring     the API keys as they are on the disk now
    limits      how often a tenant may ask
    keys        the command that makes, lists, revokes and rotates keys
    app         all of it around a service's routes
    server      how it listens

It knows no service: each brings its routes, its table and its metrics.
"""
