-- Tables for people and dashboards: folds of the tape, written in the transaction that records the facts.
-- `tapeline rebuild` folds the whole tape again and compares; nothing here is the truth.

SET ROLE tapeline_owner;

CREATE TABLE projection_offset (
    name text   PRIMARY KEY,
    pos  bigint NOT NULL
) WITH (fillfactor = 10); -- updated at every commit: room for in-place updates

INSERT INTO projection_offset (name, pos)
VALUES ('orders', 0), ('fills', 0), ('positions', 0), ('trades', 0), ('equity', 0);

CREATE TABLE orders (
    order_id        text    PRIMARY KEY,
    strategy        text    NOT NULL,
    instrument      text    NOT NULL,
    side            text    NOT NULL,
    order_type      text    NOT NULL,
    time_in_force   text    NOT NULL,
    purpose         text    NOT NULL,
    quantity        numeric NOT NULL,
    limit_price     numeric,
    stop_price      numeric,
    client_order_id text    NOT NULL,
    venue_order_id  text    NOT NULL,
    status          text    NOT NULL,
    reason          text    NOT NULL,
    filled          numeric NOT NULL,
    notional        numeric NOT NULL,
    fees            numeric NOT NULL,
    proposed_ns     bigint  NOT NULL,
    updated_ns      bigint  NOT NULL,
    first_pos       bigint  NOT NULL,
    last_pos        bigint  NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX orders_by_position ON orders (first_pos);

CREATE TABLE fills (
    pos          bigint  PRIMARY KEY,
    time_ns      bigint  NOT NULL,
    order_id     text    NOT NULL,
    trade_id     text    NOT NULL,
    strategy     text    NOT NULL,
    instrument   text    NOT NULL,
    side         text    NOT NULL,
    quantity     numeric NOT NULL,
    price        numeric NOT NULL,
    fee          numeric NOT NULL,
    fee_currency text    NOT NULL,
    liquidity    text    NOT NULL,
    slippage     numeric NOT NULL
);

CREATE TABLE positions (
    strategy      text    NOT NULL,
    instrument    text    NOT NULL,
    quantity      numeric NOT NULL,
    average_price numeric NOT NULL,
    realised_pnl  numeric NOT NULL,
    fees          numeric NOT NULL,
    time_ns       bigint  NOT NULL,
    pos           bigint  NOT NULL,
    PRIMARY KEY (strategy, instrument)
) WITH (fillfactor = 70);

CREATE TABLE trades (
    pos         bigint  PRIMARY KEY,
    time_ns     bigint  NOT NULL,
    trade       text    NOT NULL,
    strategy    text    NOT NULL,
    instrument  text    NOT NULL,
    side        text    NOT NULL,
    quantity    numeric NOT NULL,
    entry_price numeric NOT NULL,
    exit_price  numeric NOT NULL,
    opened_ns   bigint  NOT NULL,
    closed_ns   bigint  NOT NULL,
    pnl         numeric NOT NULL,
    fees        numeric NOT NULL,
    funding     numeric NOT NULL,
    decision    text    NOT NULL
);

CREATE TABLE equity (
    pos       bigint  PRIMARY KEY,
    marked_ns bigint  NOT NULL,
    cash      numeric NOT NULL,
    equity    numeric NOT NULL,
    exposure  numeric NOT NULL
);

GRANT SELECT, INSERT, UPDATE, DELETE ON projection_offset, orders, fills, positions, trades, equity TO tapeline_ledger;
GRANT SELECT ON projection_offset, orders, fills, positions, trades, equity TO tapeline_reader;

RESET ROLE;
