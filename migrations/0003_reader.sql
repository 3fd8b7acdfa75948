-- The role of dashboards and of people who look: whatever they ask, the ledger is not held up by it.

ALTER ROLE tapeline_reader CONNECTION LIMIT 20;
ALTER ROLE tapeline_reader SET statement_timeout = '30s';
ALTER ROLE tapeline_reader SET idle_in_transaction_session_timeout = '30s';
ALTER ROLE tapeline_reader SET lock_timeout = '5s';
