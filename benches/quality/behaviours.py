"""Quality of the behaviour functions through SQL: real attacks beside made-up ordinary traffic, in a running juno.

  python3 benches/quality/behaviours.py --data ../shared/data/threat --url postgresql://127.0.0.1:5432/juno [logons] [beacons] [lateral] [volume] [dns] [travel] [process]

Needs psql. Real: sshd's log of brute force (loghub OpenSSH_2k), Zeek's log of an emulated APT29 day, domain names. Ordinary traffic is drawn
from a fixed seed; where nothing real is at hand, so is the attack, and the line says so. A naive rule stands beside each figure. All
functions run with their defaults unless the line says otherwise; nothing was chosen by these figures.
"""

import argparse
import base64
import csv
import json
import math
import random
import re
from collections import Counter, defaultdict

from juno import Psql

DAY = 86_400
START = 1_767_225_600


class Juno(Psql):
    def load(self, columns, events):
        """A table of events; the first of each is its time in seconds."""
        self.run("DROP TABLE IF EXISTS quality_events")
        self.run(f"CREATE TABLE quality_events (id BIGINT PRIMARY KEY, seconds DOUBLE PRECISION, {columns})")
        rows = "\n".join(f"{number}," + ",".join(map(str, event)) for number, event in enumerate(events))
        self.run("COPY quality_events FROM STDIN WITH (FORMAT csv)", stdin=rows + "\n")

    def told(self, function, columns, select, arguments=""):
        relation = f"(SELECT to_timestamp(seconds) AS time, {columns} FROM quality_events)"
        return self.rows(f"SELECT {select} FROM {function}({relation}{arguments})")


def sshd(data):
    """Tries to log on of the sshd log: time, source, account, status."""
    for row in csv.DictReader(open(f"{data}/OpenSSH_2k.log_structured.csv")):
        hours, minutes, seconds = map(int, row["Time"].split(":"))
        text, count = row["Content"], 1
        if repeated := re.match(r"message repeated (\d+) times: \[ (.*)\]", text):
            count, text = int(repeated[1]), repeated[2]
        if tried := re.match(r"(Failed|Accepted) \S+ for (?:invalid user )?(\S*) ?from (\S+) port", text):
            time = START + 7 * DAY + 3_600 * hours + 60 * minutes + seconds
            yield from [(time, tried[3], tried[2] or "-", 2 if tried[1] == "Failed" else 1)] * count


def people(rng, days):
    """400 people who mistype now and then, four who forgot their password, an office of 150 behind one address."""
    for person in range(550):
        source = f"10.0.{person // 250}.{person % 250}" if person < 400 else "10.9.9.9"
        for day in range(days):
            for hour in (8, 13):
                time = START + day * DAY + 3_600 * (hour + rng.random())
                wrong = 0.35 if person % 100 == 7 else 0.08
                while rng.random() < wrong:
                    yield time, source, f"user{person}", 2
                    time += rng.expovariate(1 / 8)
                    wrong = 0.75 if person % 100 == 7 else 0.3
                yield time, source, f"user{person}", 1


def logons(juno, data):
    rng, days = random.Random(1), 14
    real, ordinary = list(sshd(data)), list(people(rng, days))
    juno.load("src_ip TEXT, actor_user TEXT, status_id INTEGER", real + ordinary)
    failures, accounts = Counter(), defaultdict(set)
    for _, source, account, status in real:
        if status == 2:
            failures[source] += 1
            accounts[source].add(account)
    guessers = {source for source in failures if failures[source] >= 5}
    sprayers = {source for source in accounts if len(accounts[source]) >= 5}
    source_days = days * 401
    columns = "src_ip, actor_user, status_id"
    told = [(row[0], float(row[1])) for row in juno.told("brute_force", columns, "source, p_value") if row[0]]
    print(f"brute_force: OpenSSH_2k, {len(guessers)} addresses with five failures or more, beside {source_days} source-days of people")
    for limit in (1.0, 1e-2, 1e-3, 1e-4):
        found = {source for source, p in told if p <= limit} & guessers
        false = sum(p <= limit and source.startswith("10.") for source, p in told)
        print(f"  p <= {limit:<7g} found {len(found)} of {len(guessers)}   false alarms {false} ({1_000 * false / source_days:.2f} per 1,000 source-days)")
    naive = Counter((source, int(time // 600)) for time, source, _, status in real + ordinary if status == 2)
    naive = [source for (source, _), count in naive.items() if count >= 5]
    print(f"  naive: five failures in ten minutes   found {len(set(naive) & guessers)} of {len(guessers)}   false alarms {sum(source.startswith('10.') for source in naive)}")
    told = [(row[0], float(row[1])) for row in juno.told("password_spray", columns, "source, p_value")]
    print(f"password_spray: OpenSSH_2k, {len(sprayers)} addresses with five accounts or more in the day")
    for limit in (1.0, 1e-2, 1e-3, 1e-4):
        found = {source for source, p in told if p <= limit} & sprayers
        false = sum(p <= limit and source.startswith("10.") for source, p in told)
        print(f"  p <= {limit:<7g} found {len(found)} of {len(sprayers)}   false alarms {false} of {source_days} source-days")
    hourly = defaultdict(set)
    for time, source, account, status in real + ordinary:
        if status == 2:
            hourly[source, int(time // 3_600)].add(account)
    naive = [source for (source, _), names in hourly.items() if len(names) >= 5]
    print(f"  naive: five failing accounts in an hour   found {len(set(naive) & sprayers)} of {len(sprayers)}   false alarms {sum(source.startswith('10.') for source in naive)}")


def zeek(data, stream):
    rows = map(json.loads, open(f"{data}/apt29_day1_zeek.jsonl"))
    return [row for row in rows if row["@stream"] == stream]


def beacons(juno, data):
    rng = random.Random(2)
    real = [(row["ts"], row["id_orig_h"], row["id_resp_h"], row["id_resp_p"], row.get("orig_bytes", "")) for row in zeek(data, "conn")]
    first, last = min(row[0] for row in real), max(row[0] for row in real)
    ordinary = []
    for client in range(200):
        time = first
        while time < last:
            time += rng.expovariate(1 / 200)
            site, page = int(30 * rng.random() ** 3), time
            for _ in range(rng.randint(1, 25)):
                page += rng.expovariate(1 / 2)
                ordinary.append((page, f"10.7.0.{client}", f"198.51.100.{site}", 443, int(rng.lognormvariate(7, 1))))
    juno.load("src_ip TEXT, dst_ip TEXT, dst_port INTEGER, bytes_out BIGINT", real + ordinary)
    told = juno.told("beaconing", "src_ip, dst_ip, dst_port, bytes_out", "source, target, evidence ->> 'port', score")
    rank = next(place for place, row in enumerate(told, 1) if row[:3] == ["10.0.1.6", "192.168.0.4", "8443"])
    print(f"beaconing: APT29 day 1 (38 minutes, command and control for four), {len(told)} pairs of ten connections or more")
    busiest = Counter(row[1:4] for row in real + ordinary).most_common()
    place = next(place for place, (pair, _) in enumerate(busiest, 1) if pair == ("10.0.1.6", "192.168.0.4", 8443))
    print(f"  naive: most connections first: rank {place}")
    print(f"  the channel 10.0.1.6 -> 192.168.0.4:8443 has rank {rank}, score {float(told[rank - 1][3]):.3f}")
    print(f"  ordinary pairs at 0.6 and more: {sum(row[0].startswith('10.7.') and float(row[3]) >= 0.6 for row in told)}, at 0.8: "
          f"{sum(row[0].startswith('10.7.') and float(row[3]) >= 0.8 for row in told)}")
    for jitter in (0.0, 0.2, 0.5):
        channel, time = [], first
        while time < last:
            channel.append((time, "10.8.0.1", "203.0.113.7", 443, 400 + rng.randint(0, 40)))
            time += 60 * (1 + jitter * (2 * rng.random() - 1))
        juno.load("src_ip TEXT, dst_ip TEXT, dst_port INTEGER, bytes_out BIGINT", channel + real + ordinary)
        told = juno.told("beaconing", "src_ip, dst_ip, dst_port, bytes_out", "source, score")
        rank = next(place for place, row in enumerate(told, 1) if row[0] == "10.8.0.1")
        print(f"  made up: once a minute, jitter {jitter:.0%}: rank {rank} of {len(told)}, score {float(told[rank - 1][1]):.3f}")


def lateral(juno, data):
    rng, days = random.Random(3), 5
    real = [(row["ts"], row["id_orig_h"], row["id_resp_h"]) for row in zeek(data, "conn") if not row["id_resp_h"].endswith(".255")]
    end = max(row[0] for row in real)
    ordinary = []
    for client in range(80):
        name = f"10.0.1.{client + 2}" if client < 6 else f"10.0.2.{client}"
        own = [f"10.0.0.{rng.randint(5, 60)}" for _ in range(4)]
        for hour in range(24 * days):
            for _ in range(rng.randint(0, 6)):
                draw = rng.random()
                target = "10.0.0.4" if draw < 0.6 else rng.choice(own) if draw < 0.985 else f"10.0.0.{rng.randint(5, 60)}"
                ordinary.append((end - DAY * days + 3_600 * hour + 3_600 * rng.random(), name, target))
    juno.load("src_ip TEXT, dst_ip TEXT", real + ordinary)
    told = juno.told("lateral_movement", "src_ip, dst_ip", "source, extract(epoch FROM window_end), score, p_value, evidence")
    began = min(row[0] for row in real)
    attack = [row for row in told if row[0] in ("10.0.1.4", "10.0.1.6") and float(row[1]) >= began]
    windows = 80 * 24 * (days - 1)
    print(f"lateral_movement: APT29 day 1, the last 38 minutes of {days} made-up days of 80 clients ({windows} windows)")
    for row in attack:
        print(f"  {row[0]}: score {float(row[2]):.3f}, p {float(row[3]):.5f}, {row[4]}")
    for limit in (1e-2, 1e-3):
        false = sum(row not in attack and float(row[3]) <= limit for row in told)
        print(f"  p <= {limit:<6g} false alarms {false} ({false / windows:.5f} of the windows)")
    known, naive = set(), 0
    for time, source, target in sorted(ordinary):
        naive += (source, target) not in known and time > end - DAY * (days - 1)
        known.add((source, target))
    print(f"  naive: any edge not seen before   false alarms {naive}")


def volume(juno, _):
    rng, days = random.Random(4), 21
    ordinary, hourly = [], {}
    for host in range(100):
        usual, spread = rng.gauss(14, 1), rng.uniform(0.5, 1.3)
        for hour in range(24 * days):
            if 7 <= hour % 24 < 19 and rng.random() < 0.8:
                sent = rng.lognormvariate(usual, spread)
                hourly[host, hour] = sent
                ordinary.append((START + 3_600 * hour + 3_600 * rng.random(), f"10.0.0.{host}", "198.51.100.1", int(sent)))
    windows = sum(hour >= 7 * 24 for _, hour in hourly)
    print(f"exfiltration: made up, 100 hosts, {days} days; {windows} windows after the first week; ten hours with more than usual added")
    for times in (10, 30, 100):
        leaks = {(host, 24 * (8 + host // 4) + 10) for host in range(0, 40, 4)}
        extra = [(START + 3_600 * hour + 1_800, f"10.0.0.{host}", "203.0.113.7", int(times * 1.2e6)) for host, hour in leaks]
        juno.load("src_ip TEXT, dst_ip TEXT, bytes_out BIGINT", ordinary + extra)
        told = juno.told("exfiltration", "src_ip, dst_ip, bytes_out", "source, extract(epoch FROM window_start), p_value")
        told = [(int(row[0].split(".")[3]), int(float(row[1]) - START) // 3_600, float(row[2])) for row in told]
        for limit in (1e-2, 1e-3):
            alarms = {(host, hour) for host, hour, p in told if p <= limit and hour >= 7 * 24}
            print(f"  {times * 1.2:.0f} MB added, p <= {limit:<6g} found {len(alarms & leaks)} of {len(leaks)}   false alarms {len(alarms - leaks)} ({len(alarms - leaks) / windows:.5f})")
        naive, sums = set(), defaultdict(list)
        for (host, hour), sent in sorted(hourly.items(), key=lambda item: item[0][1]):
            sent += times * 1.2e6 * ((host, hour) in leaks)
            past = sums[host]
            if len(past) > 60:
                mean = sum(past) / len(past)
                if sent > mean + 3 * math.sqrt(sum((x - mean) ** 2 for x in past) / len(past)):
                    naive.add((host, hour))
            past.append(sent)
        naive = {alarm for alarm in naive if alarm[1] >= 7 * 24}
        heard = leaks & set(hourly)
        print(f"    naive: mean and three deviations   found {len(naive & leaks)} of {len(heard)} with traffic   false alarms {len(naive - leaks)}")


def dns(juno, data):
    rng = random.Random(5)
    names = [line.strip().split(",") for line in open(f"{data}/dga_sample.csv")]
    legit = [name for kind, _, name in names if kind == "legit"]
    generated = [name for kind, _, name in names if kind == "dga"]
    ordinary = [(START + row["ts"] % DAY, row["id_orig_h"], row["query"], row.get("qtype_name", "A")) for row in zeek(data, "dns") if "query" in row]
    for client in range(100):
        for hour in range(48):
            for _ in range(rng.randint(0, 40)):
                time = START + 3_600 * (hour + rng.random())
                draw, domain = rng.random(), legit[int(len(legit) * rng.random() ** 3)]
                below = rng.choice(["www", "www", "", "cdn", "static", "api", "mail"]) if draw < 0.8 else (
                    f"{rng.getrandbits(48):012x}.cdn" if draw < 0.95 else f"e{rng.randint(1, 9999)}.g")
                if draw >= 0.8:
                    domain = legit[int(40 * rng.random())]
                ordinary.append((time, f"10.0.0.{client}", f"{below}.{domain}".strip("."), rng.choice(["A", "AAAA", "A", "HTTPS", "MX"])))
        if client == 50:
            ordinary += [(START + 90_000 + 20 * i, "10.0.0.50", name, "A") for i, name in enumerate(generated[:1_000])]
    payload = open(f"{data}/OpenSSH_2k.log_structured.csv", "rb").read()
    pairs = len({(client, ".".join(name.split(".")[-2:]), int(time // 3_600)) for time, client, name, _ in ordinary})
    print(f"dns_tunnelling: domain names of dga_sample.csv and Zeek's log as ordinary names, {pairs} windows of client and domain, one client with a generator of 1,000 domains;"
          " sshd's log carried in base 32")
    for count in (0, 15, 60, 600):
        tunnel = []
        for i in range(count):
            text = base64.b32encode(payload[60 * i:60 * i + 60]).decode().strip("=").lower()
            tunnel.append((START + 100_800 + 3_600 * i / max(count, 1), "10.0.0.7", f"{text[:50]}.{text[50:]}.evil-tunnel.com", "TXT"))
        juno.load("src_ip TEXT, dns_query TEXT, qtype TEXT", ordinary + tunnel)
        told = juno.told("dns_tunnelling", "src_ip, dns_query, qtype", "client, domain, score, p_value, evidence ->> 'information_bytes'")
        false = [row for row in told if row[1] != "evil-tunnel.com"]
        if count == 0:
            print(f"  no tunnel: told {len(told)}, at a score of 0.6: {sum(float(row[2]) >= 0.6 for row in told)}, at p <= 0.001: {sum(float(row[3]) <= 1e-3 for row in told)}")
            continue
        place = next((place for place, row in enumerate(told, 1) if row[1] == "evil-tunnel.com"), None)
        row = told[place - 1] if place else None
        said = f"rank {place}, score {float(row[2]):.3f}, p {float(row[3]):.6f}, about {row[4]} bytes of {60 * count}" if row else "not told"
        print(f"  {count} names an hour: {said}; others at a score of 0.6: {sum(float(other[2]) >= 0.6 for other in false)}")
    naive = Counter()
    for time, client, name, _ in ordinary:
        naive[client, int(time // 3_600)] += len(name) > 52
    print(f"  naive: a name of more than 52 characters   false alarms {sum(count > 0 for count in naive.values())}")


def travel(juno, _):
    rng, days = random.Random(6), 60
    towns = [(52.5, 13.4), (48.9, 2.4), (40.7, -74.0), (37.8, -122.4), (51.5, -0.1), (1.35, 103.8), (-33.9, 151.2), (35.7, 139.7)]
    ordinary, stolen, naive = [], [], 0
    for user in range(300):
        home, away = rng.choice(towns[:4]), None
        for day in range(days):
            if rng.random() < 0.03:
                away = rng.choice(towns) if away is None else None
            for hour in (8, 12, 16):
                private = user % 20 == 3 and rng.random() < 0.4
                place = rng.choice(towns) if private else (away or home)
                ordinary.append((START + day * DAY + 3_600 * (hour + rng.random()), f"user{user}", place[0] + rng.gauss(0, 0.1), place[1] + rng.gauss(0, 0.1)))
    for user in range(0, 300, 15):
        place = rng.choice(towns[4:])
        stolen.append((START + 40 * DAY + 3_600 * 12.5, f"user{user + 1}", place[0], place[1]))
    juno.load("actor_user TEXT, latitude DOUBLE PRECISION, longitude DOUBLE PRECISION", ordinary + stolen)
    told = juno.told("impossible_travel", "actor_user, latitude, longitude", "account, p_value, extract(epoch FROM window_end)")
    victims, days_of_users = {event[1] for event in stolen}, 300 * days
    def attack(row):
        return row[0] in victims and abs(float(row[2]) - START - 40 * DAY - 3_600 * 14) < 3 * 3_600
    print(f"impossible_travel: made up, 300 users for {days} days, one in twenty behind a private network, some fly; {len(stolen)} stolen accounts")
    for limit in (1.0, 1e-2, 1e-3):
        found = {row[0] for row in told if attack(row) and float(row[1]) <= limit}
        false = sum(not attack(row) and float(row[1]) <= limit for row in told)
        print(f"  p <= {limit:<6g} found {len(found)} of {len(stolen)}   false alarms {false} ({1_000 * false / days_of_users:.2f} per 1,000 user-days)")
    print("  naive: any speed above 900 km/h is the line p <= 1")


def process(juno, _):
    rng = random.Random(7)
    ordinary = []
    for number in range(60_000):
        parent = min(int(rng.paretovariate(0.7)), 40) - 1
        child = (parent * 7 + min(int(rng.paretovariate(0.9)), 60)) % 150
        ordinary.append((START + 10 * number, f"host{rng.randint(0, 80)}", f"parent{parent}", f"process{child}"))
    attacks = [(START + 10 * (20_000 + 1_500 * i) + 5, f"host{i}", f"parent{3 + i % 5}", "process9" if i % 2 else f"tool{i}") for i in range(20)]
    pairs = {(event[2], event[3]) for event in ordinary}
    attacks = [attack for attack in attacks if (attack[2], attack[3]) not in pairs]
    juno.load("device_hostname TEXT, actor_parent TEXT, actor_process TEXT", ordinary + attacks)
    told = juno.told("rare_process", "device_hostname, actor_parent, actor_process", "parent, process, p_value")
    new = {(event[2], event[3]) for event in attacks}
    print(f"rare_process: made up, 60,000 launches, {len(attacks)} of pairs of parent and process that nobody has")
    for limit in (1e-2, 1e-3, 1e-4):
        found = {(row[0], row[1]) for row in told if float(row[2]) <= limit} & new
        false = sum((row[0], row[1]) not in new and float(row[2]) <= limit for row in told)
        print(f"  p <= {limit:<6g} found {len(found)} of {len(new)}   false alarms {false} ({false / 60_000:.5f} of the launches)")
    seen, naive = set(), 0
    for event in ordinary:
        naive += event[1:] not in seen
        seen.add(event[1:])
    print(f"  naive: any host, parent and process not seen before   false alarms {naive}")


def main():
    sets = {"logons": logons, "beacons": beacons, "lateral": lateral, "volume": volume, "dns": dns, "travel": travel, "process": process}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="../shared/data/threat")
    parser.add_argument("--url", default="postgresql://127.0.0.1:5432/juno")
    parser.add_argument("sets", nargs="*", default=list(sets))
    arguments = parser.parse_args()
    for name in arguments.sets:
        sets[name](Juno(arguments.url), arguments.data)


if __name__ == "__main__":
    main()
