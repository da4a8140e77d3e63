"""A server of WebSockets (Debian's python3-websockets) that says back what it hears: PORT. It prints how each of them ended."""

import asyncio
import sys

import websockets


async def talk(socket):
    print("open")
    try:
        async for message in socket:
            await socket.send(message)
    except websockets.exceptions.ConnectionClosedError:
        pass
    print("closed", socket.close_code)


async def main():
    async with websockets.serve(talk, "127.0.0.1", int(sys.argv[1])):
        print("ready")
        await asyncio.Future()


asyncio.run(main())
