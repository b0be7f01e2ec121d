// What an application in TypeScript would write: compiled by the tests, never run.
import { AuthSession, GatefoldError, RealtimeClient, type Message, type Room, type User } from 'gatefold';

const session = new AuthSession({ baseUrl: 'https://example.org', timeout: 5_000 });
const stop: () => void = session.on('sessionexpired', ({ reason }) => console.log(reason.toUpperCase()));
stop();
const user: User = await session.login('ada', 'correct horse battery');
const response: Response = await session.fetch('/api/protected', { method: 'GET' });
if (!response.ok) throw await GatefoldError.from(response);

const client = new RealtimeClient(session);
client.on('state', ({ state }) => state === 'open');
client.connect();
const room: Room = await client.join('lobby', { since: '0-0' });
room.on('message', (message: Message) => console.log(message.user.username, message.data));
room.startTyping();
await room.publish({ from: user.id });

// @ts-expect-error there is no such event
session.on('logout', () => {});
// @ts-expect-error an event has no such detail
client.on('connected', ({ secret }) => secret);
// @ts-expect-error rooms have names
await client.join(1);
