-- What happens in the shop, from psql, from a program in any language, or from another trigger.

truncate shop.articles, shop.orders;

insert into shop.articles values (1, 'apple', 0.50, 20), (2, 'pear', 0.75, 8);

update shop.articles set price = price + 0.10;

insert into shop.orders values (1, 1, 6), (2, 2, 3), (3, 1, 12), (4, 2, 4);

delete from shop.orders where id = 3;
