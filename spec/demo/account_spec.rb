# frozen_string_literal: true

require "tmpdir"
require "#{ROOT}/examples/demo/ledger"
require "#{ROOT}/examples/demo/pace"
require "#{ROOT}/examples/demo/throughput"
require "#{ROOT}/examples/demo/work"

RSpec.describe "the demo's account" do
  around { |example| Dir.mktmpdir("swarm-ledger") { |folder| @folder = folder and example.run } }

  def batch(node, time, size = 100)
    Demo::LedgerReader::Batch.new(node, node, time, Array.new(size) { |id| [id, 0] })
  end

  describe Demo::LedgerReader do
    let(:reader) { described_class.new(@folder) }

    def new_batches
      [].tap { |found| reader.each_new { |batch| found << batch } }
    end

    it "reads each line once, with who wrote it" do
      ledger = Demo::Ledger.new(@folder, 3)
      ledger.write([[17, 4_000_000_000], [18, 5]])
      expect(new_batches.map(&:results)).to eq([[], [[17, 4_000_000_000], [18, 5]]])
      ledger.write([[19, 6]])
      expect(new_batches.map { |batch| [batch.node, batch.pid, batch.results] }).to eq([[3, Process.pid, [[19, 6]]]])
      expect(new_batches).to eq([])
    end

    it "leaves out a line that a killed process has not finished" do
      File.write(File.join(@folder, "0-1"), "1.5 7:1\n1.6 8:1 9")
      expect(new_batches.flat_map(&:results)).to eq([[7, 1]])
      File.write(File.join(@folder, "0-1"), ":2\n", mode: "a")
      expect(new_batches.flat_map(&:results)).to eq([[8, 1], [9, 2]])
    end
  end

  describe Demo::Audit do
    let(:audit) { described_class.new(4) }

    it "tells what was lost" do
      [1, 3].each { |id| audit.record(id, 0) }
      expect([audit.processed, audit.lost, audit.lost_ids, audit.complete?]).to eq([2, 2, [2, 4], false])
    end

    it "does not take a duplicate for another message" do
      [1, 2, 2, 3, 3].each { |id| audit.record(id, 0) }
      expect([audit.processed, audit.lost, audit.duplicates]).to eq([3, 1, 2])
    end

    it "does not take an id that nobody has sent for a message" do
      [0, 5, -1].each { |id| audit.record(id, 0) }
      expect([audit.processed, audit.lost, audit.strangers]).to eq([0, 4, 3])
    end

    it "finds results that differ between two runs, and between two times in one" do
      other = described_class.new(4)
      1.upto(4) { |id| audit.record(id, id) and other.record(id, id == 3 ? 0 : id) }
      expect(audit.differing(other)).to eq(1)
      audit.record(4, 5)
      expect(audit.differing(other)).to eq(2)
    end
  end

  describe Demo::Pace do
    let(:pace) { described_class.new(100_000) }

    it "never lets more be on its way than the broker keeps" do
      largest = 1.step(10_000_000, 99_991).map { |id| Demo::Work.message(id, 2**32).bytesize }.max
      # What Kafka adds to a message is less than 70 bytes.
      expect(described_class::LEAD * (largest + 70)).to be < 5 * 1024 * 1024
      expect(pace.advance(0, 0.0, pending: false)).to eq(10_000)
      expect(pace.advance(500, 0.0, pending: false)).to eq(10_500)
    end

    it "never goes back, and ends with the last message" do
      pace.advance(50_000, 0.0, pending: false)
      expect(pace.advance(40_000, 0.0, pending: true)).to eq(60_000)
      expect(pace.advance(99_000, 0.0, pending: false)).to eq(100_000)
      expect(pace).to be_finished
    end

    it "keeps messages back while faults are pending, and lets them go bit by bit" do
      expect(pace.advance(95_000, 10.0, pending: true)).to eq(90_000)
      expect(pace.advance(95_000, 12.0, pending: true)).to eq(91_000)
      expect(pace.advance(95_000, 12.1, pending: false)).to eq(100_000)
    end

    it "lets the last one go even when the faults stay pending" do
      pace.advance(95_000, 10.0, pending: true)
      expect(pace.advance(95_000, 10.0 + described_class::DRIP, pending: true)).to eq(100_000)
    end
  end

  describe Demo::Throughput do
    let(:throughput) { described_class.new(2) }

    it "counts from when the last worker has warmed up to the end of the stretch" do
      [[0, 1.0], [1, 2.0], [0, 2.4], [0, 3.0], [1, 4.0], [0, 4.5], [1, 9.0]].each do |node, time|
        throughput.batch(batch(node, time))
      end
      throughput.finish(4.5)
      expect(throughput.began_at).to eq(2.5)
      expect(throughput.rate).to eq(300 / 2.0)
    end

    it "says nothing of a stretch that is too short" do
      [0, 1].each { |node| throughput.batch(batch(node, 1.0)) }
      throughput.finish(2.4)
      expect(throughput.rate).to be_nil
    end

    it "does not begin before everybody works: an empty line is no work" do
      throughput.batch(batch(0, 1.0))
      throughput.batch(batch(1, 1.0, 0))
      throughput.finish(9.0)
      expect([throughput.began_at, throughput.lasted, throughput.rate]).to eq([nil, 0.0, nil])
    end
  end

  describe Demo::Work do
    it "gives the same message for the same id and seed, and another result for another message" do
      expect(described_class.message(7, 1)).to eq(described_class.message(7, 1))
      results = [[7, 1], [7, 2], [8, 1]].map { |id, seed| described_class.process(described_class.message(id, seed)) }
      expect(results.map(&:first)).to eq([7, 7, 8])
      expect(results.map(&:last).uniq.size).to eq(3)
    end
  end
end
