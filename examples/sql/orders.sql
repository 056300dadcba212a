-- Orders with psql: the order and its job in one transaction, then the shipment and the job's completion in one.
--
--   psql -v order=17 -f orders.sql                                   places an order
--   psql -v job=job_01… -v token=1882419200000001 -f orders.sql      ships what a worker leased
--
-- Ends with an error, and nothing written, if the lease is lost (SQLSTATE OF001).
\set ON_ERROR_STOP on
\if :{?order}
    BEGIN;
    INSERT INTO orders (id) VALUES (:order);
    SELECT onefold.add('shipping', json_build_object('order_id', :order),
        jsonb_build_object('key', 'ship-' || :order))->>'id' AS job;
    COMMIT;
\else
    BEGIN;
    INSERT INTO shipments (job) VALUES (:'job');
    SELECT onefold.complete(:'job', :token, '{"parcels": 1}')->>'state' AS state;
    COMMIT;
\endif
