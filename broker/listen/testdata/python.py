# Goes through what a client of Eclipse Paho for Python does, and says what it saw,
# a line each. python.py tcp|websockets HOST PORT VERSION [FILE-OF-THE-AUTHORITY]
import queue
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

transport, host, port, version = sys.argv[1:5]
v5 = version == "5"
patience = 30


class Client:
    def __init__(self, ident, lasting=False, will=None):
        kind = mqtt.MQTTv5 if v5 else mqtt.MQTTv311
        self.c = mqtt.Client(ident, transport=transport, protocol=kind, **({} if v5 else {"clean_session": not lasting}))
        if transport == "websockets":
            self.c.ws_set_options(path="/mqtt")
        if len(sys.argv) > 5:
            self.c.tls_set(sys.argv[5])
        self.heard, self.acks, self.done = queue.Queue(), queue.Queue(), queue.Queue()
        self.c.on_message = lambda c, u, m: self.heard.put(m)
        self.c.on_connect = lambda c, u, flags, *rest: self.acks.put((flags["session present"], rest[0]))
        self.c.on_subscribe = lambda c, u, mid, *rest: self.done.put(mid)
        self.c.on_unsubscribe = lambda c, u, mid, *rest: self.done.put(mid)
        if will:
            self.c.will_set(will, "gone", 1)
        more = {}
        if v5:
            p = Properties(PacketTypes.CONNECT)
            p.SessionExpiryInterval = 100 if lasting else 0
            more = {"clean_start": not lasting, "properties": p}
        self.c.connect(host, int(port), **more)
        self.c.loop_start()
        self.present, code = self.acks.get(timeout=patience)
        if code != 0:
            raise RuntimeError("not connected: %s" % code)

    def publish(self, topic, payload, qos, retain=False, properties=None):
        info = self.c.publish(topic, payload, qos, retain, properties) if v5 else self.c.publish(topic, payload, qos, retain)
        info.wait_for_publish(patience)
        if not info.is_published():
            raise RuntimeError("not published: " + topic)

    def tell(self):
        m = self.heard.get(timeout=patience)
        print(m.topic, m.payload.decode(), m.qos, "true" if m.retain else "false")
        return m

    def leave(self):
        self.c.disconnect()
        self.c.loop_stop()


pub = Client("py-pub")
pub.publish("py/kept", "kept", 1, True)
sub = Client("py-sub", lasting=True)
print("present", "true" if sub.present else "false")
sub.c.subscribe("py/#", 2)
sub.done.get(timeout=patience)
sub.tell()
for qos in range(3):
    pub.publish("py/x", "q%d" % qos, qos)
    sub.tell()
if v5:
    p = Properties(PacketTypes.PUBLISH)
    p.PayloadFormatIndicator, p.ContentType, p.ResponseTopic, p.CorrelationData = 1, "text/plain", "py/answer", b"c"
    p.MessageExpiryInterval = 1000
    p.UserProperty = [("k", "1"), ("k", "2")]
    pub.publish("py/p", "p", 1, properties=p)
    p = sub.heard.get(timeout=patience).properties
    print(p.PayloadFormatIndicator == 1, p.ContentType, p.ResponseTopic, p.CorrelationData.decode(),
          ",".join(v for _, v in p.UserProperty), p.MessageExpiryInterval > 990)
sub.leave()
pub.publish("py/x", "while away", 1)
sub = Client("py-sub", lasting=True)
print("present", "true" if sub.present else "false")
sub.tell()
mortal = Client("py-will", will="py/will")
mortal.c._sock_close()  # without a word
sub.tell()
sub.c.unsubscribe("py/#")
sub.done.get(timeout=patience)
pub.publish("py/kept", "", 1, True)
sub.leave()
pub.leave()
print("heard besides", sub.heard.qsize())
