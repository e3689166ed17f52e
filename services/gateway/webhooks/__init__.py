"""Telling others that an analysis has ended, as Standard Webhooks (standardwebhooks.com) describe it.

records     what is kept about a webhook, and where: a file each
messages    what is told
signing     proof of who tells it
egress      where nothing is sent to
sending     one try
retries     when the next one is
courier     the task that does all of it
schemas, routes   `/v1/webhooks`
"""
