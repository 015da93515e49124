"""A webhook of FastAPI that looks at nothing: what ours is compared with.

python benchmarks/empty_webhook.py PORT CERTIFICATE KEY
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request

app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)


@app.post("/validate")
async def validate(request: Request) -> dict[str, Any]:
    """Allow whatever comes."""
    review = await request.json()
    response = {"uid": review["request"]["uid"], "allowed": True}
    return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        ssl_certfile=sys.argv[2],
        ssl_keyfile=sys.argv[3],
        access_log=False,
        log_level="error",
        timeout_keep_alive=120,
    )
