-- Jobs from SQL: no Python is needed to add one, and a trigger can do it for every row, whoever inserts it.

create or replace function first_steps.greet_customer()
returns trigger
language plpgsql
as $$
begin
  perform graphile_worker.add_job('greet', json_build_object('name', new.customer));
  return new;
end;
$$;

drop trigger if exists greet_customer on first_steps.orders;

create trigger greet_customer
after insert on first_steps.orders
for each row execute function first_steps.greet_customer();

insert into first_steps.orders (customer) values ('edsger@example.com');

select graphile_worker.add_job('greet', json_build_object('name', 'SQL'));
