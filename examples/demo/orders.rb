# frozen_string_literal: true

module Demo
  # What the demo tells its programs: lines on their standard input, the last one "stop".
  module Orders
    # Calls the block with each line, in a thread of its own. An end without "stop" means that the demo is gone: then
    # the program is to go as well, and at once, since there is nobody left to talk to.
    # @yieldparam line [String]
    def self.listen
      Thread.new do
        line = nil
        yield line while line != "stop" && (line = $stdin.gets(chomp: true))
        exit!(3) unless line
      end
    end
  end
end
