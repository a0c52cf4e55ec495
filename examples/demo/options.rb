# frozen_string_literal: true

require "optparse"

module Demo
  # What the command line asks for.
  Options = Struct.new(:nodes, :messages, :seed, :chaos, :json, keyword_init: true) do
    # @param argv [Array<String>]
    # @return [Options]
    # @raise [OptionParser::ParseError] names the bad value and what is allowed
    def self.parse(argv)
      options = new(nodes: 4, messages: 100_000, seed: Random.new_seed % 1_000_000, chaos: true, json: false)
      rest = options.parser.parse(argv)
      raise OptionParser::InvalidArgument, "#{rest.first} (the demo takes options alone)" unless rest.empty?

      options.freeze
    end

    def parser
      OptionParser.new do |o|
        o.banner = "Usage: bin/demo [options]\n\nA swarm consumes Kafka while its nodes are killed, frozen, crashed " \
                   "and silenced,\nand loses no message.\n\n"
        number(o, "--nodes N", self.class::NODES, "processes in the swarm (4)") { |n| self.nodes = n }
        number(o, "--messages N", self.class::MESSAGES, "messages for each of the two runs (100000)") do |n|
          self.messages = n
        end
        number(o, "--seed N", self.class::SEEDS, "repeats the faults, their order and their targets") do |n|
          self.seed = n
        end
        o.on("--no-chaos", "leaves the nodes alone") { self.chaos = false }
        o.on("--json", "prints one JSON document and nothing else") { self.json = true }
        o.on("-h", "--help", "prints this") do
          puts o
          exit
        end
      end
    end

    private

    def number(parser, flag, allowed, text)
      parser.on(flag, Integer, text) do |given|
        unless allowed.cover?(given)
          raise OptionParser::InvalidArgument, "#{given} (allowed: #{allowed.begin} to #{allowed.end})"
        end

        yield given
      end
    end
  end

  Options::NODES = (1..64).freeze
  # With fewer messages there is nothing left to process while the faults are being repaired.
  Options::MESSAGES = (1_000..10_000_000).freeze
  Options::SEEDS = (0..(2**32)).freeze
end
