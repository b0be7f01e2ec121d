-- Names are compared without regard to the case of ASCII letters, whatever language the database speaks: in Turkish lower('I')
-- is another letter than i, and INFO and info were two users. (Fails if there are such two: rename one.)
-- The old index stays for replicas of the version before, which look names up by it.
CREATE UNIQUE INDEX users_username_c_key ON users (lower(username COLLATE "C"));
