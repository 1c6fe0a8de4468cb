// An OpenID provider that gives services tokens for `pinion`: signed JWTs, by the client
// credentials grant; and that people log in to the dashboard with, by the authorization code
// flow. `node provider.mjs PORT KID REDIRECT` signs with a fresh key of that name.
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, kid, redirect] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const key = { ...privateKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'ES256' };
const client = (id) => ({
  client_id: id,
  client_secret: `${id}-secret`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
  id_token_signed_response_alg: 'ES256',
});
const dashboard = {
  ...client('dashboard'),
  grant_types: ['authorization_code'],
  redirect_uris: [redirect],
  response_types: ['code'],
};
const provider = new Provider(issuer, {
  jwks: { keys: [key] },
  clients: [client('ana'), client('bo'), dashboard],
  cookies: { keys: ['a key for cookies'] },
  // Whoever asks proves later that it was them (RFC 7636), or gets no code.
  pkce: { required: () => true },
  features: {
    // Pages on which anybody is who they say.
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: (_, { clientId }) =>
        clientId === 'dashboard' ? undefined : 'https://pinion.example',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: '',
        audience: 'pinion',
        accessTokenTTL: 300,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'));
