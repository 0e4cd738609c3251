// Signalling through the video room of a Janus server, in place of the two ends' mailbox in call.html.

/** A participant of `room` at `url`: offers what it sends, or is offered what the first sender sends. */
function janus(url, room) {
  const socket = new WebSocket(url, 'janus-protocol'), waiting = new Map(), events = [];
  let session, handle, wake = () => {};
  const opened = new Promise((done, failed) => { socket.onopen = done; socket.onerror = failed; });

  socket.onmessage = ({data}) => {
    const told = JSON.parse(data), reply = waiting.get(told.transaction);
    if (told.janus === 'event') { events.push(told); wake(); }
    else if (reply && told.janus !== 'ack') { waiting.delete(told.transaction); reply(told); }
  };

  async function ask(request) {
    const transaction = crypto.randomUUID();
    const reply = new Promise(done => waiting.set(transaction, done));
    socket.send(JSON.stringify({...request, transaction, session_id: session, handle_id: handle}));
    const told = await reply;
    if (told.janus === 'error') throw new Error(`Janus: ${told.error.reason}`);
    return told;
  }

  /** What the room answers at once. */
  const look = async body => (await ask({janus: 'message', body})).plugindata.data;

  /** The event that follows a request. */
  async function tell(body, jsep) {
    socket.send(JSON.stringify({janus: 'message', body, jsep, transaction: crypto.randomUUID(),
      session_id: session, handle_id: handle}));
    while (!events.length) await new Promise(done => { wake = done; });
    const event = events.shift();
    if (event.plugindata.data.error) throw new Error(`Janus: ${event.plugindata.data.error}`);
    return event;
  }

  async function enter() {
    await opened;
    session = (await ask({janus: 'create'})).data.id;
    handle = (await ask({janus: 'attach', plugin: 'janus.plugin.videoroom'})).data.id;
  }

  async function sender() {
    for (;;) {
      const there = (await look({request: 'listparticipants', room})).participants.find(one => one.publisher);
      if (there) return there.id;
      await new Promise(done => setTimeout(done, 200));
    }
  }

  return {
    async offer(description) {
      await enter();
      await tell({request: 'join', ptype: 'publisher', room});
      return (await tell({request: 'publish'}, description)).jsep;
    },
    async offered() {
      await enter();
      return (await tell({request: 'join', ptype: 'subscriber', room, streams: [{feed: await sender()}]})).jsep;
    },
    answer: description => tell({request: 'start'}, description),
  };
}
