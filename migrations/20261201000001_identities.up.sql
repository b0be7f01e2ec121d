-- Who a user is, for ever: a restored backup gives the numbers of users out again, and never an identity. It is random but
-- for its time (UUIDv7, RFC 9562), and made by the database, so that replicas that know nothing of it give one all the same.
-- Every row gets one: the table is written anew, and is locked meanwhile (some 3 s for 100,000 users).
CREATE FUNCTION uuid_v7() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT encode(
        set_bit(set_bit(
            overlay(uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6),
            52, 1), 53, 1),
        'hex')::uuid
$$;

ALTER TABLE users ADD COLUMN uid uuid NOT NULL DEFAULT uuid_v7();
CREATE UNIQUE INDEX users_uid_key ON users (uid);

-- Of whom an event tells, if that was known. Rows from before have none.
ALTER TABLE events ADD COLUMN uid uuid;

-- How new this database is, and how new Redis was when it was last seen: each counts up, about once in 5 s, and a count that
-- is smaller than it was tells that its store is an older copy. One row; redis has one count for each of the 64 partitions.
CREATE TABLE store_marks (
    id       boolean     PRIMARY KEY DEFAULT true CHECK (id),
    postgres bigint      NOT NULL,
    redis    bigint[]    NOT NULL CHECK (cardinality(redis) = 64),
    at       timestamptz NOT NULL
);

INSERT INTO store_marks (postgres, redis, at) VALUES (0, array_fill(0::bigint, ARRAY[64]), now());

-- Has users who are added from now on get larger numbers than this. The owner of the sequence does it for the replicas, and
-- only forwards.
CREATE FUNCTION skip_user_ids(up_to bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT setval('users_id_seq', up_to) FROM users_id_seq WHERE last_value < up_to
$$;
