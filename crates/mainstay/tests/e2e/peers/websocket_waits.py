"""A client of WebSockets (Debian's python3-websockets) that says one thing and then waits for the end: PORT HOST."""

import asyncio
import sys

import websockets


async def main():
    port, host = int(sys.argv[1]), sys.argv[2]
    async with websockets.connect(f"ws://{host}/", host="127.0.0.1", port=port) as socket:
        await socket.send("hello")
        print(await socket.recv())
        try:
            await socket.recv()
        except websockets.exceptions.ConnectionClosed as closed:
            print("closed", closed.rcvd.code if closed.rcvd else "without a word")


asyncio.run(main())
