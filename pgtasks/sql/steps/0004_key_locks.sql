-- breaking: no

-- Never holds a row that anyone can see: add_jobs inserts the hashes of its job keys in order and deletes them again, and
-- whoever inserts the same hash meanwhile waits for that transaction. Advisory locks would do the same, but there is room
-- for only a few thousand of them in a server's shared memory, and one transaction may well add more keys than that.
create unlogged table {gw}._pgtasks_key_locks (
  key_hash bigint primary key
);
