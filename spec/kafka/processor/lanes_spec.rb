# frozen_string_literal: true

require "spec_helper"

# Whatever a processor decides, without a broker, a thread or a clock.
RSpec.describe "SwarmNative::Kafka::Processor::Lanes" do
  next unless SwarmNative::Kafka.available?

  lanes_class = SwarmNative::Kafka::Processor.const_get(:Lanes)
  lane_class = SwarmNative::Kafka::Processor.const_get(:Lane)
  patience = lanes_class::PATIENCE

  # Messages of one byte each, at offsets from `first_offset` on.
  chunk_class = Struct.new(:topic, :partition, :first_offset, :size) do
    def bytesize = size
    def slice(start, count) = self.class.new(topic, partition, first_offset + start, [count, size - start].min)
  end

  let(:settings) { { max_batch: 10, max_wait: 1.0, max_messages: 100, max_bytes: 1000, backoff: 1.0..30.0 } }
  let(:lanes) { lanes_class.new(**settings) }

  define_method(:chunk) { |partition, first, size, topic = "t"| chunk_class.new(topic, partition, first, size) }

  def add(now, *chunks) = lanes.add(chunks, now)

  # The offsets of a job.
  def offsets(job) = job&.chunks&.flat_map { |chunk| (chunk.first_offset...(chunk.first_offset + chunk.size)).to_a }

  # Does what the consumer is told, and gives it as words.
  def obey(now, seek: true)
    orders = lanes.orders(now)
    orders.pause.each { |lane| lanes.paused(lane) }
    orders.seek.each { |lane| seek ? lanes.sought(lane) : lanes.not_sought(lane, now) }
    orders.resume.each { |lane| lanes.resumed(lane) }
    orders.pause.map { |lane| "pause #{lane.partition}" } + orders.seek.map { |lane| "seek #{lane.partition}" } +
      orders.resume.map { |lane| "resume #{lane.partition}" }
  end

  describe "batches" do
    it "begin when they are full, or when their first message has waited" do
      add(0.0, chunk(0, 5, 4))
      expect(lanes.begin(0.99)).to be_nil
      expect(lanes.due_at(0.5, true)).to eq 1.0
      expect(lanes.due_at(0.5, false)).to be_nil
      add(0.5, chunk(0, 9, 5))
      expect(lanes.begin(0.99)).to be_nil
      add(0.9, chunk(0, 14, 3))
      expect(offsets(lanes.begin(0.9))).to eq((5..14).to_a)
      expect(lanes.size).to eq 2
    end

    it "of one partition come one after the other, in order, and those of others beside them" do
      add(0.0, chunk(0, 0, 25), chunk(1, 0, 10))
      first, other = lanes.begin(0.0), lanes.begin(0.0)
      expect([offsets(first), offsets(other)]).to eq [(0..9).to_a, (0..9).to_a]
      expect([first.lane.partition, other.lane.partition]).to eq [0, 1]
      expect(lanes.begin(0.0)).to be_nil
      expect(lanes.finish(first, 0.1)).to be true
      second = lanes.begin(0.1)
      expect(offsets(second)).to eq((10..19).to_a)
      lanes.finish(second, 0.2)
      # The rest is no full batch, and has waited since it came.
      expect(lanes.begin(0.9)).to be_nil
      expect(offsets(lanes.begin(1.0))).to eq((20..24).to_a)
    end

    it "are given to the partitions in turn" do
      add(0.0, chunk(0, 0, 30), chunk(1, 0, 30))
      turns = 4.times.map { lanes.begin(0.0).tap { |job| lanes.finish(job, 0.0) }.lane.partition }
      expect(turns).to eq [0, 1, 0, 1]
    end

    it "get on when a message of theirs is done" do
      add(1.0, chunk(0, 0, 10))
      job = lanes.begin(1.0)
      expect([job.started_at, job.moved_at]).to eq [1.0, 1.0]
      job.done(3, 5.0)
      expect([job.started_at, job.moved_at, job.done_until]).to eq [1.0, 5.0, 3]
    end

    it "are told apart by topic" do
      add(0.0, chunk(0, 0, 10, "a"), chunk(0, 0, 10, "b"))
      expect(2.times.map { lanes.begin(0.0).lane.topic }).to eq %w[a b]
    end
  end

  describe "a failure" do
    # Fails a job at `now`; gives the seconds until the next attempt, and goes back.
    def fail_at(now, from: 0)
      add(now, chunk(0, from, 10))
      job = lanes.begin(now)
      wait = lanes.fail(job, from, now)
      expect(obey(now)).to include("seek 0")
      [job.attempt, wait]
    end

    it "is tried again from the same offset, after a wait that doubles up to its limit" do
      now = 0.0
      seen = 7.times.map do
        attempt, wait = fail_at(now)
        now += wait
        expect(obey(now - 0.001)).to eq []
        expect(obey(now)).to eq ["resume 0"]
        [attempt, wait]
      end
      expect(seen).to eq [[1, 1.0], [2, 2.0], [3, 4.0], [4, 8.0], [5, 16.0], [6, 30.0], [7, 30.0]]
    end

    it "pauses its partition, forgets what came behind, and goes back before it goes on" do
      add(0.0, chunk(0, 0, 25), chunk(1, 0, 10))
      job = lanes.begin(0.0)
      expect(lanes.fail(job, 3, 0.0)).to eq 1.0
      expect([lanes.begin(0.0).lane.partition, lanes.size]).to eq [1, 0]
      add(0.0, chunk(0, 25, 10))
      expect(lanes.size).to eq 0
      orders = lanes.orders(0.0)
      expect([orders.pause.map(&:partition), orders.seek.map { |lane| [lane.partition, lane.seek_to] }])
        .to eq [[0], [[0, 3]]]
    end

    it "counts attempts anew once there was progress" do
      expect(fail_at(0.0)).to eq [1, 1.0]
      obey(1.0)
      add(1.0, chunk(0, 0, 10))
      job = lanes.begin(1.0)
      expect([job.attempt, lanes.fail(job, 4, 1.0)]).to eq [2, 1.0]
      obey(1.0)
      obey(2.0)
      add(2.0, chunk(0, 4, 10))
      job = lanes.begin(2.0)
      expect(job.attempt).to eq 2
      lanes.finish(job, 2.0)
      add(2.0, chunk(0, 14, 10))
      expect(lanes.begin(2.0).attempt).to eq 1
    end

    it "goes back again when that has failed, and goes on no earlier" do
      add(0.0, chunk(0, 0, 10))
      lanes.fail(lanes.begin(0.0), 0, 0.0)
      expect(obey(0.0, seek: false)).to eq ["pause 0", "seek 0"]
      expect(lanes.due_at(0.0, true)).to eq lanes_class::SEEK_AGAIN
      expect(obey(0.9)).to eq []
      expect(obey(1.0, seek: false)).to eq ["seek 0"]
      expect(obey(1.5)).to eq []
      expect(obey(2.0)).to eq ["seek 0"]
      expect(obey(2.0)).to eq ["resume 0"]
    end
  end

  describe "a revocation" do
    it "lets the job end, begins nothing else, and takes the result until the partition is dropped" do
      add(0.0, chunk(0, 0, 30), chunk(1, 0, 10))
      job = lanes.begin(0.0)
      expect(lanes.leave("t" => [0]).map(&:partition)).to eq [0]
      expect(lanes.size).to eq 10
      add(0.0, chunk(0, 30, 10))
      expect([lanes.begin(0.0).lane.partition, lanes.begin(0.0)]).to eq [1, nil]
      expect(lanes.current?(job)).to be true
      expect(lanes.finish(job, 0.5)).to be true
      expect(lanes.drop("t" => [0])).to eq []
    end

    it "refuses a result that comes too late, be it good or bad" do
      add(0.0, chunk(0, 0, 10), chunk(1, 0, 10))
      jobs = [lanes.begin(0.0), lanes.begin(0.0)]
      lanes.leave("t" => [0, 1])
      expect(lanes.drop("t" => [0, 1])).to eq jobs
      expect(jobs.map { |job| lanes.current?(job) }).to eq [false, false]
      expect([lanes.finish(jobs[0], 9.0), lanes.fail(jobs[1], 0, 9.0)]).to eq [false, nil]
      expect(lanes.idle?).to be true
      expect(obey(9.0)).to eq []
    end

    it "tries nothing again that fails meanwhile" do
      add(0.0, chunk(0, 0, 10))
      job = lanes.begin(0.0)
      lanes.leave("t" => [0])
      expect(lanes.fail(job, 0, 0.0)).to be_nil
      expect(obey(0.0)).to eq []
    end

    it "has a partition that comes back wait for the job of its earlier life" do
      add(0.0, chunk(0, 0, 10))
      late = lanes.begin(0.0)
      lanes.leave("t" => [0])
      lanes.drop("t" => [0])
      lanes.assign("t" => [0])
      add(1.0, chunk(0, 0, 10))
      expect(lanes.begin(5.0)).to be_nil
      expect(lanes.due_at(5.0, true)).to be_nil
      expect(lanes.finish(late, 6.0)).to be false
      job = lanes.begin(6.0)
      expect([offsets(job).first, job.attempt, lanes.current?(job)]).to eq [0, 1, true]
    end

    it "frees a partition that waits for its next attempt, and it begins afresh" do
      add(0.0, chunk(0, 0, 10))
      lanes.fail(lanes.begin(0.0), 0, 0.0)
      obey(0.0)
      lanes.leave("t" => [0])
      lanes.drop("t" => [0])
      expect([lanes.due_at(0.0, true), obey(1.0)]).to eq [nil, []]
      lanes.assign("t" => [0])
      add(2.0, chunk(0, 0, 10))
      expect(lanes.begin(2.0).attempt).to eq 1
    end
  end

  describe "back pressure" do
    it "gives a full partition a moment, then pauses it until it is half empty" do
      lanes.assign("t" => [0, 1])
      add(0.0, chunk(0, 0, 50))
      expect(lanes.room(0.0)).to be_nil
      expect(lanes.due_at(0.0, false)).to eq patience
      expect(obey(patience / 2)).to eq []
      expect(obey(patience)).to eq ["pause 0"]
      expect(lanes.room(patience)).to eq [50, 500]
      jobs = []
      2.times { lanes.finish(jobs.push(lanes.begin(1.0)).last, 1.0) }
      expect([lanes.size, obey(1.0)]).to eq [30, []]
      lanes.finish(lanes.begin(1.0), 1.0)
      expect([lanes.size, obey(1.0)]).to eq [20, ["resume 0"]]
    end

    it "pauses nothing where a full partition is emptied in time" do
      lanes.assign("t" => [0, 1])
      add(0.0, chunk(0, 0, 50))
      lanes.begin(0.0)
      # No more than what it is short of its share, so that the other one finds room.
      expect(lanes.room(0.01)).to eq [10, 460]
      expect(obey(1.0)).to eq []
    end

    it "counts bytes as well as messages" do
      big = Class.new(chunk_class) { def bytesize = size * 600 }
      lanes.assign("t" => [0, 1])
      add(0.0, big.new("t", 0, 0, 1))
      expect(lanes.room(0.0)).to be_nil
      expect(obey(patience)).to eq ["pause 0"]
      # Full, so nothing more can come: it need not wait.
      expect(lanes.begin(patience)).not_to be_nil
      expect(obey(patience)).to eq ["resume 0"]
    end

    it "pauses all where there are too many partitions for a share each" do
      lanes.assign("t" => (0..19).to_a)
      add(0.0, *(0..11).map { |partition| chunk(partition, 0, 9) })
      expect(lanes.size).to eq 108
      expect(obey(0.0)).to eq []
      expect(lanes.room(0.0)).to be_nil
      expect(obey(patience).size).to eq 20
      expect(lanes.room(patience)).to eq [1, 392]
      11.times { lanes.finish(lanes.begin(2.0), 2.0) }
      # All but the one that still has more than its share.
      expect(obey(2.0).size).to eq 19
    end

    it "never keeps more than its room and one poll" do
      random = Random.new(7)
      lanes.assign("t" => (0..5).to_a)
      paused = {}
      offset = 0
      now = 0.0
      running = []
      2000.times do
        orders = lanes.orders(now)
        orders.pause.each { |lane| lanes.paused(lane) && paused[lane.partition] = true }
        orders.resume.each { |lane| lanes.resumed(lane) || paused.delete(lane.partition) }
        if (room = lanes.room(now))
          open = (0..5).reject { |partition| paused[partition] }
          size = [room[0], random.rand(1..40)].min
          add(now, chunk(open.sample(random: random), offset += 40, size)) unless open.empty?
        end
        expect(lanes.size).to be <= 100
        job = random.rand < 0.5 && lanes.begin(now)
        running << job if job
        lanes.finish(running.shift, now) if running.size > 2 || random.rand < 0.2 && running.any?
        now += random.rand * 0.04
      end
      expect(offset).to be > 10_000
    end
  end

  describe "quiet" do
    it "forgets what waits, pauses everything and begins nothing" do
      add(0.0, chunk(0, 0, 30), chunk(1, 0, 5))
      job = lanes.begin(0.0)
      lanes.quiet(0.0)
      expect([lanes.size, lanes.begin(9.0), obey(9.0), lanes.idle?]).to eq [0, nil, ["pause 0", "pause 1"], false]
      add(9.0, chunk(0, 10, 10))
      lanes.assign("t" => [2])
      expect(lanes.size).to eq 0
      expect(obey(9.0)).to eq ["pause 2"]
      expect(lanes.finish(job, 9.0)).to be true
      expect([lanes.idle?, lanes.due_at(9.0, true)]).to eq [true, nil]
    end

    it "lets a failed partition rest" do
      add(0.0, chunk(0, 0, 10))
      job = lanes.begin(0.0)
      lanes.quiet(0.0)
      lanes.fail(job, 0, 0.0)
      expect([obey(0.0), obey(99.0), lanes.due_at(0.0, true)]).to eq [["pause 0"], [], nil]
    end
  end

  it "costs the same for one busy partition among ten thousand" do
    lanes.assign("t" => (0..9999).to_a)
    obey(0.0)
    looked_at = 0
    TracePoint.new(:call) { |point| looked_at += 1 if point.self.is_a?(lane_class) }.enable do
      add(0.0, chunk(5, 0, 10))
      lanes.finish(lanes.begin(0.0), 0.0)
      obey(0.0)
      lanes.due_at(0.0, true)
    end
    expect(looked_at).to be < 200
  end
end
