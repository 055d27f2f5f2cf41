CREATE EXTENSION citext;
CREATE TABLE firms(id bigint primary key, label text); INSERT INTO firms VALUES (1,'One'),(2,'Two');
CREATE TABLE people(id int primary key, firm_id bigint not null references firms, mail citext);
INSERT INTO people VALUES (1,1,'Ann@x.org'),(2,2,'b@x.org');
