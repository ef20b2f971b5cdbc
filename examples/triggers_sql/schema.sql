-- A shop that knows nothing of Python: its triggers add the jobs, in the transaction of whoever changes a row.

create schema if not exists shop;

create table if not exists shop.articles (
  id integer primary key,
  name text not null,
  price numeric not null,
  stock integer not null check (stock >= 0)
);

create table if not exists shop.orders (
  id integer primary key,
  article integer not null references shop.articles,
  pieces integer not null
);

-- A job for each order. The queue has them packed one at a time, in the order in which they came.
create or replace function shop.take_order() returns trigger language plpgsql as $$
begin
  update shop.articles set stock = stock - new.pieces where id = new.article;
  perform graphile_worker.add_job(
    'pack',
    json_build_object('order', new.id),
    queue_name => 'warehouse',
    job_key => 'pack:' || new.id
  );
  return null;
end;
$$;

create or replace trigger take_order after insert on shop.orders
  for each row execute function shop.take_order();

-- Who cancels an order takes its job back. If that runs already it goes on, but is not tried again.
create or replace function shop.cancel_order() returns trigger language plpgsql as $$
begin
  update shop.articles set stock = stock + old.pieces where id = old.article;
  perform graphile_worker.remove_job('pack:' || old.id);
  return null;
end;
$$;

create or replace trigger cancel_order after delete on shop.orders
  for each row execute function shop.cancel_order();

-- However often the stock of an article changes, one job with its key waits. A worker sees it before it packs.
create or replace function shop.reorder() returns trigger language plpgsql as $$
begin
  perform graphile_worker.add_job(
    'reorder',
    json_build_object('article', new.id),
    job_key => 'reorder:' || new.id,
    priority => -10
  );
  return null;
end;
$$;

create or replace trigger reorder after update of stock on shop.articles
  for each row when (new.stock < 5) execute function shop.reorder();

-- Payloads that are lists grow: all articles whose price has changed are in the one job that waits.
create or replace function shop.announce() returns trigger language plpgsql as $$
begin
  perform graphile_worker.add_job(
    'announce',
    json_build_array(new.id),
    job_key => 'announce',
    job_key_mode => 'preserve_run_at'
  );
  return null;
end;
$$;

create or replace trigger announce after update of price on shop.articles
  for each row when (new.price <> old.price) execute function shop.announce();
