-- The tape: one ordered, append-only, hash-chained log of facts. One tape per database, so there is no column for the run.
--
-- Applied by a superuser (tapeline_ledger.migrate). Everything belongs to tapeline_owner, who cannot log in; the ledger
-- runs as tapeline_ledger, who may add facts and never change one; tools read as tapeline_reader.

DO $$
DECLARE role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['tapeline_owner', 'tapeline_ledger', 'tapeline_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- roles belong to the cluster: another database has made them
        END;
    END LOOP;
    ALTER ROLE tapeline_ledger LOGIN;
    ALTER ROLE tapeline_reader LOGIN;
END $$;

-- A client that hangs inside a transaction must not hold up vacuum or the next ledger.
ALTER ROLE tapeline_ledger SET idle_in_transaction_session_timeout = '10s';
ALTER ROLE tapeline_ledger SET lock_timeout = '5s';
ALTER ROLE tapeline_reader SET default_transaction_read_only = on;

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO tapeline_owner;
GRANT USAGE ON SCHEMA public TO tapeline_ledger, tapeline_reader;

SET ROLE tapeline_owner;

CREATE TABLE tape (
    pos         bigint      NOT NULL CHECK (pos > 0),
    stream      text        NOT NULL,
    version     bigint      NOT NULL CHECK (version > 0),
    id          text        NOT NULL,
    author      text        NOT NULL,
    type        text        NOT NULL,
    schema      integer     NOT NULL,
    time_ns     bigint      NOT NULL,
    cause       bigint      NOT NULL CHECK (cause >= 0 AND cause < pos),
    correlation bigint      NOT NULL CHECK (correlation > 0 AND correlation <= pos),
    payload     bytea       NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    prev_hash   bytea       NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash        bytea       NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (pos)
) PARTITION BY RANGE (pos);

COMMENT ON TABLE tape IS 'The facts, in order. payload is what the hash covers; the other columns are copies for queries.';
COMMENT ON COLUMN tape.recorded_at IS 'Wall clock of the database at commit: bookkeeping, not covered by the hash.';

CREATE FUNCTION tape_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the tape is append-only: % on % is not allowed', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER tape_keeps_rows BEFORE UPDATE OR DELETE ON tape
    FOR EACH ROW EXECUTE FUNCTION tape_is_append_only();
CREATE TRIGGER tape_keeps_all BEFORE TRUNCATE ON tape
    FOR EACH STATEMENT EXECUTE FUNCTION tape_is_append_only();
ALTER TABLE tape ENABLE ALWAYS TRIGGER tape_keeps_rows;
ALTER TABLE tape ENABLE ALWAYS TRIGGER tape_keeps_all;

-- Makes the partition that holds a position, if it is missing. The ledger calls this ahead of need; it runs as the
-- owner, so the ledger needs no right to create tables. A unique index over all partitions would have to contain pos,
-- so ids are unique per partition by index, and over the whole tape because the sequencer looks every id up.
CREATE FUNCTION tape_ensure_partition(wanted bigint) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    size      CONSTANT bigint := 10000000;
    number    CONSTANT bigint := wanted / size;
    partition CONSTANT text := format('tape_p%s', to_char(number, 'FM000000'));
BEGIN
    IF wanted < 0 OR wanted / size > 100000 THEN
        RAISE EXCEPTION 'position % is out of range', wanted;
    END IF;
    IF to_regclass('public.' || partition) IS NOT NULL THEN
        RETURN partition;
    END IF;
    EXECUTE format('CREATE TABLE public.%I PARTITION OF public.tape FOR VALUES FROM (%s) TO (%s)',
                   partition, number * size, (number + 1) * size);
    EXECUTE format('CREATE UNIQUE INDEX %I ON public.%I (id)', partition || '_id', partition);
    EXECUTE format('CREATE TRIGGER tape_keeps_all BEFORE TRUNCATE ON public.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION public.tape_is_append_only()', partition);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER tape_keeps_all', partition);
    EXECUTE format('ALTER TABLE public.%I ENABLE ALWAYS TRIGGER tape_keeps_rows', partition);
    RETURN partition;
END $$;

REVOKE ALL ON FUNCTION tape_ensure_partition(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION tape_ensure_partition(bigint) TO tapeline_ledger;
SELECT tape_ensure_partition(1);

GRANT SELECT, INSERT ON tape TO tapeline_ledger;
GRANT SELECT ON tape TO tapeline_reader;

RESET ROLE;
