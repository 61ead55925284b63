"""Asks an MCP server as agents do, with the SDK that most of them are made of.

usage: mcp_client.py URL MODE <CALLS

MODE says how the version of the protocol is agreed on: "auto" or "legacy". CALLS is a JSON list of names of tools,
each with its arguments. Prints the version, the tools, and what came of each call, as JSON. The client itself
compares each answer with the schema that the tool has for it, and fails if they differ.
"""

import asyncio
import json
import sys

from mcp import Client, MCPError


async def call(client, name, arguments):
    try:
        result = await client.call_tool(name, arguments)
    except MCPError as error:
        return {"protocol_error": error.error.message}
    return {
        "is_error": result.is_error,
        "structured": result.structured_content,
        "text": [block.text for block in result.content],
    }


async def main():
    url, mode = sys.argv[1:]
    calls = json.load(sys.stdin)
    async with Client(url, mode=mode) as client:
        listed = await client.list_tools()
        answer = {
            "protocol": client.protocol_version,
            "server": client.server_info.name,
            "instructions": client.instructions,
            "tools": [
                tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in listed.tools
            ],
            "calls": [await call(client, name, arguments) for name, arguments in calls],
        }
    json.dump(answer, sys.stdout)


asyncio.run(main())
