#!/usr/bin/env python3
"""A small client: it logs in, sends a text, and prints texts until one says "bye".
PROTOCOL.md explains each step.  client.py URL NAME PASSWORD PEER_ID TEXT"""
import base64, hashlib, json, socket, struct, subprocess, sys, threading, time, urllib.request

def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)

def encode(*fields):  # protobuf from (number, value); int values become varints
    return b"".join(varint(f << 3) + varint(v) if isinstance(v, int) else
                    varint(f << 3 | 2) + varint(len(v)) + v for f, v in fields)

def decode(body):  # protobuf to {number: last value}
    def number():
        nonlocal at
        n = shift = 0
        while True:
            n |= (body[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if body[at - 1] < 128:
                return n
    fields, at = {}, 0
    while at < len(body):
        key = number()
        if key & 7 == 0:
            fields[key >> 3] = number()
        else:  # the messages below have no other wire type than 0 and 2
            n = number()
            fields[key >> 3], at = body[at:at + n], at + n
    return fields

def aes(data, way):  # the text cipher: AES-256 in ECB mode
    key = b"12345678901234567890123456789012".hex()
    return subprocess.run(["openssl", "enc", way, "-aes-256-ecb", "-nopad", "-K", key],
                          input=data, stdout=subprocess.PIPE, check=True).stdout

def seal(text):
    text = text.encode()
    filler = bytes(-(len(text) + 4) % 16)
    return base64.b64encode(aes(text + filler + struct.pack(">I", len(text)), "-e"))

def unseal(body):
    plain = aes(base64.b64decode(body), "-d")
    return plain[:struct.unpack(">I", plain[-4:])[0]].decode()

def send(command, body=b"", seq=0):
    with sending:  # the heartbeats come from another thread
        length = 16 + len(body)
        sock.sendall(struct.pack(">IHHHHHH", length, 1, 0, command >> 8, command, seq, 0) + body)

def heartbeats():
    while True:
        time.sleep(30)
        send(0x0701)

def receive():  # one frame: command, seq and fields
    length, _, _, _, command, seq, _ = struct.unpack(">IHHHHHH", stream.read(16))
    return command, seq, decode(stream.read(length - 16))

url, name, password, peer, text = sys.argv[1:]
server = json.load(urllib.request.urlopen(url))
sock = socket.create_connection((server["priorIP"], int(server["port"])))
stream, sending = sock.makefile("rb"), threading.Lock()
digest = hashlib.md5(password.encode()).hexdigest().encode()
send(0x0103, encode((1, name.encode()), (2, digest), (3, 1), (4, 0x11)), seq=1)
result = receive()[2]
if result[2] != 0:
    sys.exit("login refused: " + result.get(3, b"").decode())
me = decode(result[5])[1]
print("logged in as user", me, flush=True)
send(0x0301, encode((1, me), (2, int(peer)), (3, 0), (4, 0), (5, 1), (6, seal(text))), seq=2)
threading.Thread(target=heartbeats, daemon=True).start()
while True:
    command, seq, m = receive()
    if command == 0x0302 and seq == 2:
        print("stored as message", m[3], flush=True)
    elif command == 0x0301 and m[5] == 1:
        send(0x0302, encode((1, 0), (2, m[1]), (3, m[3]), (4, 1)))
        print("from user %d: %s" % (m[1], unseal(m[6])), flush=True)
        if unseal(m[6]) == "bye":
            break
